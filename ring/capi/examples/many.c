/* One wait on several cameras, or on all there are: counts the frames of each and says so once a
 * second. With -n FRAMES, ends when each has so many.
 *
 *   cc many.c $(pkg-config --cflags --libs camring) -o many && ./many front-door yard
 */
#include <camring.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST 256

static int fail(void) {
  fprintf(stderr, "%s\n", camring_last_error());
  return 1;
}

int main(int argc, char **argv) {
  uint64_t enough = 0;
  int first = 1;
  if (argc > 2 && strcmp(argv[1], "-n") == 0) {
    enough = strtoull(argv[2], NULL, 10);
    first = 3;
  }
  const char *names[MOST];
  size_t count = 0;
  for (int i = first; i < argc && count < MOST; i++) names[count++] = argv[i];

  /* None named: all that the daemon has. The names are the list's, so it is kept for a while. */
  camring_list *list = NULL;
  if (count == 0) {
    if (camring_list_cameras(NULL, &list) != CAMRING_OK) return fail();
    for (size_t i = 0; i < camring_list_count(list) && count < MOST; i++) {
      camring_camera camera;
      if (camring_list_get(list, i, &camera, sizeof camera) != CAMRING_OK) return fail();
      printf("%s: %s\n", camera.name, camera.state);
      names[count++] = camera.name;
    }
  }
  camring_receiver *cameras = NULL;
  camring_code code = camring_attach_many(names, count, NULL, &cameras);
  camring_list_free(&list);
  if (code != CAMRING_OK) return fail();

  uint64_t frames[MOST] = {0}, missed[MOST] = {0};
  time_t said = time(NULL);
  int result = 0;
  for (;;) {
    camring_frame *frame = NULL;
    code = camring_next(cameras, 1000, &frame);
    if (code == CAMRING_OK) {
      camring_frame_info info;
      if (camring_frame_get_info(frame, &info, sizeof info) != CAMRING_OK) {
        result = fail();
        break;
      }
      frames[info.camera]++;
      missed[info.camera] += info.missed;
      camring_frame_release(&frame);
    } else if (code != CAMRING_TIMEOUT) {
      result = fail();
      break;
    }
    size_t done = 0;
    for (size_t i = 0; i < count; i++) done += enough != 0 && frames[i] >= enough;
    if (time(NULL) != said || done == count) {
      said = time(NULL);
      for (size_t i = 0; i < count; i++) {
        printf("%s %" PRIu64 " (missed %" PRIu64 ")", camring_camera_name(cameras, i), frames[i],
               missed[i]);
        if (camring_camera_trouble(cameras, i) != CAMRING_OK) printf(": %s", camring_last_error());
        printf("\n");
      }
      fflush(stdout);
    }
    if (done == count) break;
  }
  camring_detach(&cameras);
  return result;
}
