#pragma once
#include <cstdio>
#include <exception>
#include <new>

#include "engine/base/interrupt.h"
#include "tools/arguments.h"

namespace frost {

/// The frame of every tool: run(app, argc, argv) declares its options on `app`, calls parse_arguments(app, argc,
/// argv) and works. A limit of `ulimit -f` is an error like a full disk. A closed stdout (`| head`) ends the tool by
/// SIGPIPE, as other programs; what a training wrote until then can be resumed. Exit codes: what run returns; 0 after
/// --help; 2 for a wrong command line; 1 for an error, reported in one line on stderr.
template <class Run>
int run_tool(const char* name, int argc, char** argv, Run run) {
  std::setvbuf(stdout, nullptr, _IOLBF, 1 << 16);  // lines reach a log in order with the progress bars on stderr
  ignore_file_size_signal();
  CLI::App app;
  app.name(name);
  try {
    return run(app, argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help
    std::fprintf(stderr, "%s: %s (%s --help lists all options)\n", name, e.what(), name);
    return 2;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "%s: out of memory\n", name);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", name, e.what());
  }
  return 1;
}

}  // namespace frost
