// How long from the camera to the screen: `npm run latency`. A camera of the test farm, low-latency HLS, the
// dashboard's own player in Chromium; the numbers in the pictures say which was sent when.
import { it } from "vitest";
import { Browser } from "../tests/browser/support/browser";
import { plays } from "../tests/browser/support/dashboard";
import { measure, summary, watch } from "../tests/browser/support/latency";
import { cameraTables, Daemon, Farm } from "../tests/browser/support/site";

const SECONDS = Number(process.env.CAMRING_LATENCY_SECONDS ?? 90);
const PARTS = (process.env.CAMRING_LATENCY_PARTS ?? "200ms").split(",");
const CLIP = process.env.CAMRING_LATENCY_CLIP ?? "h264-720p";

it("is measured", async () => {
  const farm = await Farm.start({ door: CLIP });
  try {
    for (const part of PARTS) {
      const daemon = await Daemon.start(`[record]\nmode = "copy"\npart = "${part}"\n\n${cameraTables(farm)}`);
      const browser = await Browser.start();
      try {
        const page = await browser.page(`${daemon.url}/camera/door`);
        await plays(page);
        // Its first seconds, in which the player finds its pace, are no part of it.
        await new Promise((resolve) => setTimeout(resolve, 10_000));
        await watch(page);
        const all: number[] = [];
        for (let left = SECONDS; left > 0; left -= 15) {
          const some = await measure(page, farm, "door", Math.min(15, left));
          console.log(JSON.stringify(summary(some)));
          all.push(...some);
        }
        console.log(`camera to <video>, parts of ${part}, ${SECONDS} s, ms:`, JSON.stringify(summary(all)));
      } finally {
        await browser.stop();
        await daemon.stop();
      }
    }
  } finally {
    await farm.stop();
  }
});
