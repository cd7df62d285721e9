#include "engine/base/interrupt.h"

#include <csignal>

namespace frost {
namespace {
volatile std::sig_atomic_t g_requested = 0;
extern "C" void remember_signal(int signal) {
  g_requested = 1;
  std::signal(signal, SIG_DFL);
}
}  // namespace

InterruptGuard::InterruptGuard() {
  g_requested = 0;
  std::signal(SIGINT, remember_signal);
  std::signal(SIGTERM, remember_signal);
}
InterruptGuard::~InterruptGuard() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}
bool InterruptGuard::requested() { return g_requested != 0; }

void ignore_file_size_signal() { std::signal(SIGXFSZ, SIG_IGN); }

}  // namespace frost
