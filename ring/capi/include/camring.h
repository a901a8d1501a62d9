/* camring: frames of cameras, in place in shared memory. The C interface.
 *
 * Made from ring/capi/src by its test header.rs; do not edit. Guide: docs/guide/write-a-detector-c.md,
 * reference: docs/reference/c.md.
 *
 *   camring_receiver *door = NULL;
 *   if (camring_attach("front-door", NULL, &door) != CAMRING_OK)
 *     fprintf(stderr, "%s\n", camring_last_error());
 *   camring_frame *frame = NULL;
 *   while (camring_next(door, 5000, &frame) == CAMRING_OK) {
 *     camring_frame_info info;
 *     camring_frame_get_info(frame, &info, sizeof info);
 *     use(info.planes[0].data, info.planes[0].stride);
 *     camring_frame_release(&frame);
 *   }
 *   camring_detach(&door);
 *
 * Ownership: what a function returns through a `T **` is yours until you give it back with the
 * function named there, which sets your variable to NULL. Everything else stays the library's, as
 * long as its comment says. Handles are numbers that are looked up: one that was given back before
 * is CAMRING_E_HANDLE, not undefined behaviour. Pixels are plain memory: do not touch them after
 * the frame's release.
 *
 * Threads: every function may be called from any thread, with the same handles too. Do not use a
 * handle that was made before a fork() in the child.
 *
 * Errors: a negative camring_code, and a message of the calling thread in camring_last_error().
 * A function that fails has set what it returns through a pointer to NULL.
 */

#ifndef CAMRING_H
#define CAMRING_H

#include <stddef.h>
#include <stdint.h>

// The number in the library's soname. It is another one when a program has to be compiled anew.
#define CAMRING_ABI 0

// What came of a call. Errors are negative; their message is camring_last_error().
enum camring_code
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Done.
  CAMRING_OK = 0,
  // No error: nothing came in the time given.
  CAMRING_TIMEOUT = 1,
  // An argument is NULL or impossible.
  CAMRING_E_ARGUMENT = -1,
  // Not a handle, or one that was given back already.
  CAMRING_E_HANDLE = -2,
  // Nobody listens at the socket: the daemon is not running.
  CAMRING_E_NO_DAEMON = -3,
  // This user may not connect; the message says which group may.
  CAMRING_E_PERMISSION = -4,
  // Connecting failed otherwise.
  CAMRING_E_CONNECT = -5,
  // Daemon and library are of versions that do not fit.
  CAMRING_E_VERSION = -6,
  // No such camera; the message lists those there are.
  CAMRING_E_UNKNOWN_CAMERA = -7,
  // The camera has no pictures yet; the message says why.
  CAMRING_E_NOT_READY = -8,
  // A limit of the daemon's (pins, clients, memory); the message has the numbers.
  CAMRING_E_NO_ROOM = -9,
  // The camera is disabled in the configuration.
  CAMRING_E_DISABLED = -10,
  // The daemon does not answer.
  CAMRING_E_DAEMON_TIMEOUT = -11,
  // The daemon is gone, and reconnecting was not asked for.
  CAMRING_E_DISCONNECTED = -12,
  // The camera was removed from the configuration.
  CAMRING_E_REMOVED = -13,
  // As many frames are held as there are pins: release one first.
  CAMRING_E_FRAMES_HELD = -14,
  // A frame with an impossible description was skipped.
  CAMRING_E_BAD_FRAME = -15,
  // The other side does not keep to the protocol.
  CAMRING_E_PROTOCOL = -16,
  // What the daemon passed is no valid ring.
  CAMRING_E_FORMAT = -17,
  // The system refused memory or a descriptor.
  CAMRING_E_SYSTEM = -18,
  // The receiver was not attached with `pollable`.
  CAMRING_E_NOT_POLLABLE = -19,
  // A fault in this library.
  CAMRING_E_INTERNAL = -20,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum camring_code camring_code;
#else
typedef int32_t camring_code;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How the bytes of a frame are to be read. Samples of more than 8 bits are 16-bit little endian.
enum camring_format
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Planes Y, U, V; U and V half as wide and half as high.
  CAMRING_FORMAT_I420 = 1,
  // Planes Y, U, V; U and V half as wide.
  CAMRING_FORMAT_I422 = 2,
  // Planes Y, U, V of one size.
  CAMRING_FORMAT_I444 = 3,
  // Planes Y and UV in turn, half as wide and half as high.
  CAMRING_FORMAT_NV12 = 4,
  // One plane Y.
  CAMRING_FORMAT_GRAY8 = 5,
  // As I420 with 10 bits.
  CAMRING_FORMAT_I420P10 = 6,
  // As I422 with 10 bits.
  CAMRING_FORMAT_I422P10 = 7,
  // As I444 with 10 bits.
  CAMRING_FORMAT_I444P10 = 8,
  // One plane R, G, B.
  CAMRING_FORMAT_RGB24 = 16,
  // One plane B, G, R.
  CAMRING_FORMAT_BGR24 = 17,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum camring_format camring_format;
#else
typedef uint32_t camring_format;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Bits of camring_frame_info.flags.
enum camring_flag
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Decoded from a key frame.
  CAMRING_FLAG_KEY_FRAME = 1,
  // Media time or content does not continue the frame before.
  CAMRING_FLAG_DISCONTINUITY = 2,
  // Damaged, or predicted from something damaged.
  CAMRING_FLAG_CORRUPT = 4,
  // Decoded privately and copied into the ring.
  CAMRING_FLAG_COPIED = 16,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum camring_flag camring_flag;
#else
typedef uint32_t camring_flag;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Where a capture time comes from.
enum camring_time_source
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // From when the frame's data arrived: late by the camera's and the network's delay.
  CAMRING_TIME_ARRIVAL = 0,
  // From the camera's clock, by its RTCP sender reports.
  CAMRING_TIME_SENDER_REPORT = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum camring_time_source camring_time_source;
#else
typedef uint32_t camring_time_source;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What happened between a frame and the one given out before it.
enum camring_change
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Nothing.
  CAMRING_CHANGE_NONE = 0,
  // The process that reads the camera was restarted; sequence numbers went on.
  CAMRING_CHANGE_WRITER_RESTARTED = 1,
  // The ring was replaced, usually because pictures have another size now.
  CAMRING_CHANGE_REPLACED = 2,
  // The daemon was restarted; sequence numbers begin anew, and what was missed is not known.
  CAMRING_CHANGE_RECONNECTED = 3,
  // Something that this version has no name for.
  CAMRING_CHANGE_OTHER = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum camring_change camring_change;
#else
typedef uint32_t camring_change;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Range of the samples.
enum camring_range
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Not said.
  CAMRING_RANGE_UNKNOWN = 0,
  // Luma from 16 to 235.
  CAMRING_RANGE_LIMITED = 1,
  // All values.
  CAMRING_RANGE_FULL = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum camring_range camring_range;
#else
typedef uint32_t camring_range;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A frame that is held. Its pixels stay as they are until camring_frame_release(). Not an
// address: a number that the library looks up. Any thread may use and release it.
typedef struct camring_frame camring_frame;

// The cameras of a daemon, as they were when asked for. Not an address. Any thread may use it.
typedef struct camring_list camring_list;

// One camera or several, with one connection and one wait. Not an address: a number that the
// library looks up. Any thread may use it, several at once too; each frame goes to one of them.
typedef struct camring_receiver camring_receiver;

// One plane of a frame, in place. Read only: writing to it is a fault.
typedef struct camring_plane {
  // First byte of the first row.
  const uint8_t *data;
  // Bytes from there to the end of the last row.
  size_t size;
  // Bytes from one row to the next.
  uint32_t stride;
  // Bytes of a row that are picture.
  uint32_t row_bytes;
  // Rows.
  uint32_t rows;
  // 0.
  uint32_t reserved;
} camring_plane;

// Everything about a frame. Pointers in it are valid until the frame is released.
typedef struct camring_frame_info {
  // Rises by one with each frame of a camera, across restarts of its reader too. With pts and
  // capture time this is what names a frame everywhere in camring.
  uint64_t sequence;
  // Frames published after the one given out before, and not given out.
  uint64_t missed;
  // Damaged frames between the one given out before and this.
  uint64_t hidden;
  // Sequence number of its access unit in the packet ring.
  uint64_t access_unit;
  // Presentation time, in units of time_base_num / time_base_den seconds.
  int64_t pts;
  // UTC in ns since 1970-01-01; see capture_time_source.
  int64_t capture_time_ns;
  // When its data had arrived, CLOCK_MONOTONIC in ns.
  uint64_t arrival_ns;
  // When it was published, CLOCK_MONOTONIC in ns.
  uint64_t publish_ns;
  // Name of its camera, as attached to.
  const char *camera_name;
  // Index of its camera in the receiver.
  uint32_t camera;
  // Which writer of the ring.
  uint32_t generation;
  // A camring_change.
  uint32_t change;
  // Numerator of the time base.
  uint32_t time_base_num;
  // Denominator of the time base, not 0.
  uint32_t time_base_den;
  // A camring_time_source.
  uint32_t capture_time_source;
  // Pixels.
  uint32_t width;
  // Pixels.
  uint32_t height;
  // A camring_format. Be ready for one that you do not know.
  uint32_t format;
  // Bits of camring_flag.
  uint32_t flags;
  // A camring_range.
  uint32_t color_range;
  // MatrixCoefficients of ITU-T H.273; 2: not said.
  uint32_t matrix;
  // Degrees clockwise to turn the picture for display: 0, 90, 180 or 270.
  uint32_t rotation;
  // How many planes there are.
  uint32_t plane_count;
  // The planes; those from plane_count on are zero.
  struct camring_plane planes[4];
} camring_frame_info;

// One camera of a list. Pointers in it are valid as long as the list.
typedef struct camring_camera {
  // What to attach to: "front-door", or "front-door/sub".
  const char *name;
  // "streaming", "connecting", "backoff" …: docs/reference/status.md has all.
  const char *state;
  // Why it is in this state, in words. May be empty.
  const char *reason;
  // Of the last published picture, in pixels. 0: none yet.
  uint32_t width;
  // Of the last published picture, in pixels. 0: none yet.
  uint32_t height;
  // Frames published per second.
  double fps;
} camring_camera;

// How to attach. Initialise it with camring_options_init(), then change what is to be different.
typedef struct camring_options {
  // Bytes of this struct, as camring_options_init() was told.
  uint32_t size;
  // How many frames of a camera may be held at a time, 1 to 64. Default 2. The camera keeps
  // room for each, so ask for what is needed.
  uint32_t pins;
  // How long attaching waits for the first of the cameras to have pictures, in ms. Default
  // 10000.
  int32_t timeout_ms;
  // Not 0: make a descriptor for event loops, see camring_fd(). Default 0.
  uint8_t pollable;
  // Not 0: give out damaged frames too. Default 0.
  uint8_t include_corrupt;
  // Not 0: when the daemon goes away, connect again as soon as there is one. Default 1.
  uint8_t reconnect;
  // 0.
  uint8_t reserved;
  // Path of the daemon's socket. Default NULL: $CAMRING_SOCKET, or /run/camring/attach.sock.
  const char *socket_path;
} camring_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The message of the calling thread's last error, with the evidence and what to do about it.
// Empty before the first. Valid until the thread's next call that fails. Never NULL.
const char *camring_last_error(void);

// The name of a code without its prefix, say "E_NO_DAEMON"; "unknown" for any other number.
// Valid for ever. Never NULL.
const char *camring_code_name(int32_t code);

// Describes a frame. `size` is sizeof(camring_frame_info).
camring_code camring_frame_get_info(const struct camring_frame *frame,
                                    struct camring_frame_info *info,
                                    size_t size);

// Gives a frame back and sets the variable to NULL. Nothing happens when it is NULL already;
// a copy of a handle that was released before is CAMRING_E_HANDLE.
camring_code camring_frame_release(struct camring_frame **frame);

// The name of a camring_format: "i420", "rgb24" …; "unknown" for any other number. Valid for
// ever. Never NULL.
const char *camring_format_name(uint32_t format);

// Asks the daemon for its cameras. `socket_path` may be NULL: the default. Give the list back
// with camring_list_free().
camring_code camring_list_cameras(const char *socket_path, struct camring_list **list);

// How many cameras are in the list. 0 also when there is no such list.
size_t camring_list_count(const struct camring_list *list);

// One camera of the list. `size` is sizeof(camring_camera).
camring_code camring_list_get(const struct camring_list *list,
                              size_t index,
                              struct camring_camera *camera,
                              size_t size);

// All that the daemon said: the JSON of `camring status --json`. Valid as long as the list. NULL:
// no such list.
const char *camring_list_json(const struct camring_list *list);

// Gives a list back and sets the variable to NULL. Nothing happens when it is NULL already.
camring_code camring_list_free(struct camring_list **list);

// Fills in the defaults. `size` is sizeof(camring_options).
camring_code camring_options_init(struct camring_options *options, size_t size);

// Connects to the daemon and attaches to a camera: "front-door", "front-door/sub", or a view of it,
// "front-door:detect". Waits until it has pictures, options->timeout_ms at most. `options` may be
// NULL: the defaults. Give the receiver back with camring_detach().
camring_code camring_attach(const char *name,
                            const struct camring_options *options,
                            struct camring_receiver **receiver);

// As camring_attach() with `count` cameras: one connection, one wait, frames of all. Returns when
// the first has pictures; the others follow by themselves, see camring_camera_trouble().
camring_code camring_attach_many(const char *const *names,
                                 size_t count,
                                 const struct camring_options *options,
                                 struct camring_receiver **receiver);

// Gives a receiver back and sets the variable to NULL. Nothing happens when it is NULL already.
// Frames that are held stay valid until they are released. A thread that waits on the receiver
// gets CAMRING_E_HANDLE, within a quarter of a second.
camring_code camring_detach(struct camring_receiver **receiver);

// The oldest frame that was not given out yet and is still there, of the cameras in turn. Waits
// for `timeout_ms` at most: 0 does not wait, a negative number waits without limit. CAMRING_TIMEOUT
// and NULL when none came. Give the frame back with camring_frame_release().
//
// While the daemon is away and `reconnect` is set, that is no error: nothing comes, and the first
// frame after it says CAMRING_CHANGE_RECONNECTED. Connecting again may take up to 5 s more than
// the timeout if the daemon hangs. Signals do not end the wait.
camring_code camring_next(struct camring_receiver *receiver,
                          int32_t timeout_ms,
                          struct camring_frame **frame);

// As camring_next(), but the newest frame of a camera; those before it count as missed. For
// programs that are slower than their camera.
camring_code camring_latest(struct camring_receiver *receiver,
                            int32_t timeout_ms,
                            struct camring_frame **frame);

// Waits until a look is worth it (CAMRING_OK) or the time is over (CAMRING_TIMEOUT). The look may
// find nothing all the same: the frame was damaged, or another thread took it.
camring_code camring_wait(struct camring_receiver *receiver, int32_t timeout_ms);

// A descriptor for poll(), epoll and the like, the same for the receiver's life. It is readable
// when a look is worth it: then call camring_next() or camring_latest() with timeout 0 until it
// says CAMRING_TIMEOUT, which makes it unreadable again. Do so once before the first poll. It is
// also readable once a second when there is no frame.
//
// The descriptor stays the library's: do not read, write or close it. -1: an error, also when
// `pollable` was not set.
int32_t camring_fd(struct camring_receiver *receiver);

// How many cameras were asked for. 0: no such receiver.
size_t camring_camera_count(struct camring_receiver *receiver);

// A camera's name, as asked for. Valid as long as the receiver. NULL: an error.
const char *camring_camera_name(struct camring_receiver *receiver, size_t camera);

// Why a camera gives no frames, if anything is known: its code, with the message as
// camring_last_error(). CAMRING_OK: nothing is known to be wrong. For receivers of several
// cameras, where one that cannot be had does not stop the others.
camring_code camring_camera_trouble(struct camring_receiver *receiver, size_t camera);

// A warning to show when the kernel does not keep this process from writing into the cameras'
// rings, because it runs as root or as the daemon's own user. NULL: it does. Valid as long as the
// receiver.
const char *camring_read_only_warning(struct camring_receiver *receiver);

// The library's version, "MAJOR.MINOR.PATCH". Valid for ever. Never NULL.
const char *camring_version(void);

// CAMRING_ABI of the library that the program runs with. Another one than the header's means
// that the wrong library was loaded.
uint32_t camring_abi_version(void);

// The version of the attach protocol that the library speaks.
uint32_t camring_attach_version(void);

// The version of the ring layout that the library reads.
uint32_t camring_layout_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CAMRING_H */
