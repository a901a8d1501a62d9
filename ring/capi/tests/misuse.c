/* What a program can do wrong: each is an error with a message, and nothing worse. Run with the
 * name of a camera that streams. */
#include <camring.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition)                                                                     \
  do {                                                                                       \
    if (!(condition)) {                                                                      \
      fprintf(stderr, "line %d: %s; last error: %s\n", __LINE__, #condition,                 \
              camring_last_error());                                                         \
      exit(1);                                                                               \
    }                                                                                        \
  } while (0)
#define FAILS(call, wanted, words)                                                           \
  do {                                                                                       \
    CHECK((call) == (wanted));                                                               \
    CHECK(strstr(camring_last_error(), (words)) != NULL);                                    \
  } while (0)

static void *waits(void *receiver) {
  camring_frame *frame = NULL;
  camring_code code;
  while ((code = camring_next((camring_receiver *)receiver, -1, &frame)) == CAMRING_OK)
    camring_frame_release(&frame);
  CHECK(code == CAMRING_E_HANDLE && frame == NULL);
  return NULL;
}

static void *complains(void *unused) {
  (void)unused;
  CHECK(strcmp(camring_last_error(), "") == 0); /* another thread's errors are its own */
  FAILS(camring_attach(NULL, NULL, NULL), CAMRING_E_ARGUMENT, "receiver is NULL");
  return NULL;
}

static void *releases(void *frame) {
  camring_frame *mine = (camring_frame *)frame;
  CHECK(camring_frame_release(&mine) == CAMRING_OK && mine == NULL);
  return NULL;
}

static void in_a_thread(void *(*what)(void *), void *argument) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, what, argument) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  const char *name = argv[1];
  camring_receiver *camera = NULL;
  camring_frame *frame = NULL;
  camring_frame_info info;

  CHECK(camring_abi_version() == CAMRING_ABI);
  CHECK(strlen(camring_version()) >= 5 && camring_attach_version() >= 1);
  CHECK(camring_layout_version() >= 1);
  CHECK(strcmp(camring_code_name(CAMRING_E_NO_DAEMON), "E_NO_DAEMON") == 0);
  CHECK(strcmp(camring_code_name(12345), "unknown") == 0);

  /* NULL and numbers that are no handles. */
  FAILS(camring_attach(NULL, NULL, &camera), CAMRING_E_ARGUMENT, "name is NULL");
  FAILS(camring_attach(name, NULL, NULL), CAMRING_E_ARGUMENT, "receiver is NULL");
  FAILS(camring_attach("\xff\xfe", NULL, &camera), CAMRING_E_ARGUMENT, "UTF-8");
  FAILS(camring_attach("", NULL, &camera), CAMRING_E_ARGUMENT, "name length = 0");
  FAILS(camring_attach_many(NULL, 1, NULL, &camera), CAMRING_E_ARGUMENT, "names is NULL");
  FAILS(camring_attach_many(&name, 0, NULL, &camera), CAMRING_E_ARGUMENT, "0 names");
  FAILS(camring_attach_many(&name, SIZE_MAX, NULL, &camera), CAMRING_E_ARGUMENT, "names");
  FAILS(camring_next(NULL, 0, &frame), CAMRING_E_ARGUMENT, "receiver is NULL");
  FAILS(camring_next((camring_receiver *)(uintptr_t)0x1234567, 0, &frame), CAMRING_E_HANDLE,
        "0x1234567");
  FAILS(camring_wait((camring_receiver *)&frame, 0), CAMRING_E_HANDLE, "no receiver");
  FAILS(camring_frame_get_info(NULL, &info, sizeof info), CAMRING_E_ARGUMENT, "frame is NULL");
  CHECK(camring_fd(NULL) == -1 && camring_camera_count(NULL) == 0);
  CHECK(camring_camera_name(NULL, 0) == NULL && camring_read_only_warning(NULL) == NULL);
  CHECK(camring_list_count(NULL) == 0 && camring_list_json(NULL) == NULL);
  CHECK(camring_detach(&camera) == CAMRING_OK); /* NULL already */
  CHECK(camring_detach(NULL) == CAMRING_E_ARGUMENT);
  CHECK(camring_frame_release(NULL) == CAMRING_E_ARGUMENT);

  /* Options that were not initialised, of another size, impossible. */
  camring_options options;
  memset(&options, 0, sizeof options);
  FAILS(camring_attach(name, &options, &camera), CAMRING_E_ARGUMENT, "initialised");
  memset(&options, 0xee, sizeof options);
  FAILS(camring_attach(name, &options, &camera), CAMRING_E_ARGUMENT, "initialised");
  CHECK(camring_options_init(&options, 4) == CAMRING_E_ARGUMENT);
  CHECK(camring_options_init(NULL, sizeof options) == CAMRING_E_ARGUMENT);
  CHECK(camring_options_init(&options, sizeof options) == CAMRING_OK);
  options.pins = 65;
  FAILS(camring_attach(name, &options, &camera), CAMRING_E_ARGUMENT, "pins = 65");
  options.pins = 2;
  options.timeout_ms = -1;
  FAILS(camring_attach(name, &options, &camera), CAMRING_E_ARGUMENT, "timeout_ms");
  options.timeout_ms = 60000;
  options.socket_path = "/nonexistent/attach.sock";
  FAILS(camring_attach(name, &options, &camera), CAMRING_E_NO_DAEMON, "/nonexistent/attach.sock");
  options.socket_path = NULL;
  struct {
    camring_options options;
    uint64_t later;
  } newer;
  memset(&newer, 0, sizeof newer);
  CHECK(camring_options_init(&newer.options, sizeof newer) == CAMRING_OK);
  newer.later = 1;
  FAILS(camring_attach(name, &newer.options, &camera), CAMRING_E_ARGUMENT, "older than the header");
  newer.later = 0;
  newer.options.timeout_ms = 60000;
  CHECK(camring_attach(name, &newer.options, &camera) == CAMRING_OK);
  CHECK(camring_fd(camera) == -1 && strstr(camring_last_error(), "pollable") != NULL);
  CHECK(camring_camera_count(camera) == 1 && strcmp(camring_camera_name(camera, 0), name) == 0);
  CHECK(camring_camera_name(camera, 1) == NULL && camring_camera_trouble(camera, 0) == CAMRING_OK);

  /* More frames than pins; frames are good until released, also by another thread. */
  camring_frame *held[3] = {NULL, NULL, NULL};
  CHECK(camring_next(camera, 60000, &held[0]) == CAMRING_OK);
  CHECK(camring_latest(camera, 60000, &held[1]) == CAMRING_OK);
  FAILS(camring_next(camera, 60000, &held[2]), CAMRING_E_FRAMES_HELD, "2 frames are held");
  CHECK(held[2] == NULL);
  CHECK(camring_frame_get_info(held[0], &info, 8) == CAMRING_E_ARGUMENT);
  CHECK(camring_frame_get_info(held[0], NULL, sizeof info) == CAMRING_E_ARGUMENT);
  CHECK(camring_frame_get_info(held[0], &info, sizeof info) == CAMRING_OK);
  CHECK(info.plane_count >= 1 && info.planes[0].data != NULL);
  CHECK(strcmp(info.camera_name, name) == 0 && info.time_base_den != 0);
  uint8_t before = info.planes[0].data[0];

  /* Twice, through a copy. */
  camring_frame *copy = held[1];
  CHECK(camring_frame_release(&held[1]) == CAMRING_OK && held[1] == NULL);
  CHECK(camring_frame_release(&held[1]) == CAMRING_OK);
  FAILS(camring_frame_release(&copy), CAMRING_E_HANDLE, "given back already");
  copy = (camring_frame *)camera;
  FAILS(camring_frame_release(&copy), CAMRING_E_HANDLE, "no frame");

  in_a_thread(complains, NULL);

  /* A receiver that is given back while somebody waits; its frames stay. */
  pthread_t waiter;
  camring_receiver *same = camera;
  CHECK(pthread_create(&waiter, NULL, waits, camera) == 0);
  usleep(50000);
  CHECK(camring_detach(&camera) == CAMRING_OK && camera == NULL);
  CHECK(pthread_join(waiter, NULL) == 0);
  FAILS(camring_detach(&same), CAMRING_E_HANDLE, "given back already");
  CHECK(camring_frame_get_info(held[0], &info, sizeof info) == CAMRING_OK);
  CHECK(info.planes[0].data[0] == before);
  in_a_thread(releases, held[0]);
  CHECK(camring_frame_get_info(held[0], &info, sizeof info) == CAMRING_E_HANDLE);

  /* Lists. */
  camring_list *list = NULL;
  camring_camera one;
  CHECK(camring_list_cameras(NULL, &list) == CAMRING_OK);
  CHECK(camring_list_count(list) >= 1 && strstr(camring_list_json(list), name) != NULL);
  CHECK(camring_list_get(list, 0, &one, sizeof one) == CAMRING_OK);
  CHECK(strcmp(one.state, "streaming") == 0 && one.width > 0);
  CHECK(camring_list_get(list, 9999, &one, sizeof one) == CAMRING_E_ARGUMENT);
  CHECK(camring_list_free(&list) == CAMRING_OK && list == NULL);

  printf("ok\n");
  return 0;
}
