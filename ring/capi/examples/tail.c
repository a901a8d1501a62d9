/* Prints every frame of a camera, one line each, with a checksum of its picture. With FRAMES, ends
 * after so many. The lines are those of tail.rs in the crate camring-ring.
 *
 *   cc tail.c $(pkg-config --cflags --libs camring) -o tail && ./tail front-door
 */
#include <camring.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Adler-32 (RFC 1950), of the picture alone: what lies between the rows is not part of it. */
static uint32_t checksum(const camring_frame_info *info) {
  uint64_t a = 1, b = 0;
  for (uint32_t p = 0; p < info->plane_count; p++) {
    const camring_plane *plane = &info->planes[p];
    for (uint32_t row = 0; row < plane->rows; row++) {
      const uint8_t *bytes = plane->data + (size_t)row * plane->stride;
      for (uint32_t x = 0; x < plane->row_bytes; x++) b += a += bytes[x];
      a %= 65521, b %= 65521;
    }
  }
  return (uint32_t)(b << 16 | a);
}

static const char *change_name(uint32_t change) {
  switch (change) {
    case CAMRING_CHANGE_NONE: return "";
    case CAMRING_CHANGE_WRITER_RESTARTED: return " writer-restarted";
    case CAMRING_CHANGE_REPLACED: return " replaced";
    case CAMRING_CHANGE_RECONNECTED: return " reconnected";
    default: return " changed";
  }
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: tail CAMERA [FRAMES]\n");
    return 2;
  }
  long frames = argc > 2 ? atol(argv[2]) : 0;

  camring_receiver *camera = NULL;
  camring_code code = camring_attach(argv[1], NULL, &camera);
  if (code != CAMRING_OK) {
    fprintf(stderr, "%s: %s\n", camring_code_name(code), camring_last_error());
    return 1;
  }
  int result = 0;
  for (long seen = 0; frames == 0 || seen < frames;) {
    camring_frame *frame = NULL;
    code = camring_next(camera, 5000, &frame);
    if (code == CAMRING_TIMEOUT) {
      fprintf(stderr, "nothing for 5 s\n");
      continue;
    }
    camring_frame_info info;
    if (code == CAMRING_OK) code = camring_frame_get_info(frame, &info, sizeof info);
    if (code != CAMRING_OK) {
      fprintf(stderr, "%s: %s\n", camring_code_name(code), camring_last_error());
      result = 1;
      break;
    }
    printf("%s %" PRIu64 " generation %u pts %" PRId64 " time %" PRId64 "%s %ux%u missed %" PRIu64
           " sum %08" PRIx32 "%s\n",
           info.camera_name, info.sequence, info.generation, info.pts, info.capture_time_ns,
           info.capture_time_source == CAMRING_TIME_SENDER_REPORT ? "" : "?", info.width,
           info.height, info.missed, checksum(&info), change_name(info.change));
    fflush(stdout);
    camring_frame_release(&frame);
    seen++;
  }
  camring_detach(&camera);
  return result;
}
