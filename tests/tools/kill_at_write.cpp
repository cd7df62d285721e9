// Loaded into a tool by LD_PRELOAD: ends the process by SIGKILL at the KILL_STEP-th thing it does to files below
// KILL_FOLDER: opening one to write, the first write to it (half of it is done), flushing, cutting, renaming or removing
// one, making a folder. The calls themselves are the C library's.
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

enum class Watched : char { no, folder, fresh, written };
std::array<std::atomic<Watched>, 4096> g_files{};  // by descriptor
std::atomic<int> g_steps{0};

bool below(const char* path) {
  static const char* folder = std::getenv("KILL_FOLDER");
  return folder && path && std::strncmp(path, folder, std::strlen(folder)) == 0;
}

Watched watched(int file) {
  return file >= 0 && file < static_cast<int>(g_files.size()) ? g_files[static_cast<std::size_t>(file)].load() : Watched::no;
}

/// Counts a step; true where it is the one to die at.
bool fatal() {
  static const char* step = std::getenv("KILL_STEP");
  return ++g_steps == (step ? std::atoi(step) : 0);
}

void step() {
  if (fatal()) kill(getpid(), SIGKILL);
}

template <class Call>
Call* next(const char* name) {
  return reinterpret_cast<Call*>(dlsym(RTLD_NEXT, name));
}

int opened(const char* name, const char* path, int flags, mode_t mode) {
  const bool ours = below(path), writes = (flags & O_ACCMODE) != O_RDONLY;
  if (ours && writes) step();
  const int file = next<int(const char*, int, ...)>(name)(path, flags, mode);
  if (file >= 0 && file < static_cast<int>(g_files.size()))
    g_files[static_cast<std::size_t>(file)] = !ours ? Watched::no : writes ? Watched::fresh : Watched::folder;
  return file;
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return opened("open", path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return opened("open64", path, flags, mode);
}

ssize_t write(int file, const void* data, size_t bytes) {
  static auto* real = next<ssize_t(int, const void*, size_t)>("write");
  if (watched(file) == Watched::fresh) {
    g_files[static_cast<std::size_t>(file)] = Watched::written;
    if (fatal()) {
      static_cast<void>(real(file, data, bytes / 2) + 0);
      kill(getpid(), SIGKILL);
    }
  }
  return real(file, data, bytes);
}

int fsync(int file) {
  if (watched(file) != Watched::no) step();
  return next<int(int)>("fsync")(file);
}

int ftruncate(int file, off_t length) noexcept {
  if (watched(file) != Watched::no) step();
  return next<int(int, off_t)>("ftruncate")(file, length);
}

int truncate(const char* path, off_t length) noexcept {
  if (below(path)) step();
  return next<int(const char*, off_t)>("truncate")(path, length);
}

int rename(const char* from, const char* to) noexcept {
  if (below(to)) step();
  return next<int(const char*, const char*)>("rename")(from, to);
}

int unlink(const char* path) noexcept {
  if (below(path)) step();
  return next<int(const char*)>("unlink")(path);
}

int remove(const char* path) noexcept {
  if (below(path)) step();
  return next<int(const char*)>("remove")(path);
}

int mkdir(const char* path, mode_t mode) noexcept {
  if (below(path)) step();
  return next<int(const char*, mode_t)>("mkdir")(path, mode);
}

int close(int file) {
  if (file >= 0 && file < static_cast<int>(g_files.size())) g_files[static_cast<std::size_t>(file)] = Watched::no;
  return next<int(int)>("close")(file);
}
}
