#include "engine/base/interrupt.h"

#include <signal.h>  // sigaction

#include <array>
#include <csignal>
#include <mutex>

namespace frost {
namespace {
volatile std::sig_atomic_t g_requested = 0;
extern "C" void remember_signal(int signal) {
  g_requested = 1;
  ::signal(signal, SIG_DFL);
}

constexpr std::array kSignals{SIGINT, SIGTERM};
std::mutex g_mutex;
int g_guards = 0;                                        // that exist, in all threads
std::array<struct sigaction, kSignals.size()> g_before;  // what the signals did before the first of them
}  // namespace

InterruptGuard::InterruptGuard() {
  const std::lock_guard lock(g_mutex);
  if (g_guards++ > 0) return;
  g_requested = 0;
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &g_before[i]);
    const bool own =
        (g_before[i].sa_flags & SA_SIGINFO) || (g_before[i].sa_handler != SIG_DFL && g_before[i].sa_handler != SIG_IGN);
    if (!own) ::signal(kSignals[i], remember_signal);
  }
}
InterruptGuard::~InterruptGuard() {
  const std::lock_guard lock(g_mutex);
  if (--g_guards > 0) return;
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &g_before[i], nullptr);
}
bool InterruptGuard::requested() { return g_requested != 0; }

void ignore_file_size_signal() { ::signal(SIGXFSZ, SIG_IGN); }

}  // namespace frost
