/* Frames in a program's own event loop: one descriptor of camring's beside others, here standard
 * input. Ends when that ends, or after FRAMES.
 *
 *   cc poll.c $(pkg-config --cflags --libs camring) -o poll && ./poll front-door
 */
#include <camring.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int fail(void) {
  fprintf(stderr, "%s\n", camring_last_error());
  return 1;
}

/* Takes all frames there are; only then does the descriptor become unreadable. */
static camring_code take_all(camring_receiver *camera, long *seen) {
  for (;;) {
    camring_frame *frame = NULL;
    camring_code code = camring_next(camera, 0, &frame);
    if (code != CAMRING_OK) return code;
    camring_frame_info info;
    code = camring_frame_get_info(frame, &info, sizeof info);
    if (code != CAMRING_OK) return code;
    printf("%s %" PRIu64 "\n", info.camera_name, info.sequence);
    fflush(stdout);
    camring_frame_release(&frame);
    ++*seen;
  }
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: poll CAMERA [FRAMES]\n");
    return 2;
  }
  long frames = argc > 2 ? atol(argv[2]) : 0;

  camring_options options;
  camring_options_init(&options, sizeof options);
  options.pollable = 1;
  camring_receiver *camera = NULL;
  if (camring_attach(argv[1], &options, &camera) != CAMRING_OK) return fail();

  struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                          {.fd = camring_fd(camera), .events = POLLIN}};
  long seen = 0;
  int result = 0;
  while (frames == 0 || seen < frames) {
    /* Before the first poll, too. */
    if (take_all(camera, &seen) != CAMRING_TIMEOUT) {
      result = fail();
      break;
    }
    if (poll(fds, 2, -1) < 0 && errno != EINTR) {
      perror("poll");
      result = 1;
      break;
    }
    char input[256];
    if (fds[0].revents && read(STDIN_FILENO, input, sizeof input) <= 0) break;
  }
  camring_detach(&camera);
  return result;
}
