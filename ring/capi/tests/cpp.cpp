// The header in C++, with an owner that gives frames back by itself.
#include <camring.h>

#include <cstdio>
#include <memory>
#include <string>

struct Release {
  void operator()(camring_frame *frame) const { camring_frame_release(&frame); }
};
using Frame = std::unique_ptr<camring_frame, Release>;

static Frame next(camring_receiver *camera) {
  camring_frame *frame = nullptr;
  camring_code code = camring_next(camera, 60000, &frame);
  if (code != CAMRING_OK) std::fprintf(stderr, "%s\n", camring_last_error());
  return Frame(frame);
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  camring_receiver *camera = nullptr;
  if (camring_attach(argv[1], nullptr, &camera) != CAMRING_OK) {
    std::fprintf(stderr, "%s\n", camring_last_error());
    return 1;
  }
  int good = 0;
  for (int i = 0; i < 3; i++) {
    Frame frame = next(camera);
    camring_frame_info info{};
    if (frame && camring_frame_get_info(frame.get(), &info, sizeof info) == CAMRING_OK &&
        info.format == CAMRING_FORMAT_I420)
      good++;
  }
  camring_detach(&camera);
  std::printf("%d frames in C++, %s\n", good, std::string(camring_version()).c_str());
  return good == 3 ? 0 : 1;
}
