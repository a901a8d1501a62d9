/* Takes the newest frame of a camera over and over, as a program does that is slower than the
 * camera. With FRAMES, ends after so many.
 *
 *   cc latest.c $(pkg-config --cflags --libs camring) -o latest && ./latest front-door
 */
#include <camring.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Mean of an 8-bit luma plane, read in place. */
static double mean(const camring_plane *luma) {
  uint64_t sum = 0;
  for (uint32_t row = 0; row < luma->rows; row++) {
    const uint8_t *samples = luma->data + (size_t)row * luma->stride;
    for (uint32_t x = 0; x < luma->row_bytes; x++) sum += samples[x];
  }
  return (double)sum / ((double)luma->rows * luma->row_bytes);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: latest CAMERA [FRAMES]\n");
    return 2;
  }
  long frames = argc > 2 ? atol(argv[2]) : 0;

  camring_receiver *camera = NULL;
  if (camring_attach(argv[1], NULL, &camera) != CAMRING_OK) {
    fprintf(stderr, "%s\n", camring_last_error());
    return 1;
  }
  const char *warning = camring_read_only_warning(camera);
  if (warning) fprintf(stderr, "warning: %s\n", warning);

  int result = 0;
  for (long seen = 0; frames == 0 || seen < frames;) {
    camring_frame *frame = NULL;
    camring_code code = camring_latest(camera, 1000, &frame);
    if (code == CAMRING_TIMEOUT) continue;
    camring_frame_info info;
    if (code != CAMRING_OK || camring_frame_get_info(frame, &info, sizeof info) != CAMRING_OK) {
      fprintf(stderr, "%s\n", camring_last_error());
      result = 1;
      break;
    }
    printf("%" PRIu64 " %ux%u %s mean %.1f, %" PRIu64 " missed\n", info.sequence, info.width,
           info.height, camring_format_name(info.format), mean(&info.planes[0]), info.missed);
    fflush(stdout);
    camring_frame_release(&frame);
    seen++;
  }
  camring_detach(&camera);
  return result;
}
