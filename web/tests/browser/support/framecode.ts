// The frame code of tests/farm/framecode.py, read from the pixels of a <video>: which picture of the clip
// is on the screen.
import type { Page } from "playwright-core";

export interface Code {
  tag: number;
  index: number;
  /** Seconds on the media timeline, of the picture that was read. */
  mediaTime: number;
}

/**
 * Puts `window.readPicture(video)` into every page: the code of the picture that the video shows, or null
 * while it shows none, or one that is torn or unreadable.
 */
export const READER = `
(() => {
  const CELLS = 32, BANDS = 5;
  const crc8 = (bytes) => {
    let crc = 0xff;
    for (const byte of bytes) { crc ^= byte; for (let i = 0; i < 8; i++) crc = crc & 0x80 ? ((crc << 1) ^ 0x2f) & 0xff : crc << 1; }
    return crc ^ 0xff;
  };
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  window.readPicture = (video) => {
    const width = video.videoWidth, height = video.videoHeight;
    if (!width || video.readyState < 2) return null;
    canvas.width = width; canvas.height = height;
    context.drawImage(video, 0, 0);
    const cell = Math.floor(width / CELLS);
    const tall = Math.max(8, Math.floor(height / 40 / 2) * 2);
    let found = null;
    for (let band = 0; band < BANDS; band++) {
      const top = Math.floor(((height - tall) * band) / (BANDS - 1) / 2) * 2;
      const row = context.getImageData(0, top + Math.floor(tall / 2), width, 1).data;
      let bits = 0n;
      for (let i = 0; i < CELLS; i++) {
        const x = (i * cell + Math.floor(cell / 2)) * 4;
        bits = (bits << 1n) | (row[x] + row[x + 1] + row[x + 2] > 3 * 126 ? 1n : 0n);
      }
      const word = Number(bits);
      const tag = Math.floor(word / 2 ** 22) & 63, index = Math.floor(word / 256) & 16383;
      const right = ((0b1101 << 28) >>> 0) + tag * 2 ** 22 + index * 256 + crc8([band, tag, index >> 8, index & 255]);
      if (right !== word) return null;
      const code = tag + ":" + index;
      if (found !== null && found !== code) return null;
      found = code;
    }
    const [tag, index] = found.split(":").map(Number);
    return { tag, index, mediaTime: video.currentTime };
  };
})();
`;

export function readPicture(page: Page, selector = ".screen video"): Promise<Code | null> {
  return page.evaluate((where) => {
    const video = document.querySelector(where);
    const read = (window as unknown as { readPicture: (video: Element) => Code | null }).readPicture;
    return video ? read(video) : null;
  }, selector);
}
