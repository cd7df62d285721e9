#!/usr/bin/env bash
# third_party/install.sh on machines that do not exist: apt-get, dpkg-query, sudo and id are played by this script.
set -euo pipefail
script=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

play() {  # play NAME BODY: a program of that name
  printf '#!/bin/bash\n%s\n' "$2" >"$work/bin/$1"
  chmod +x "$work/bin/$1"
}
machine() {  # a Debian with everything but the packages named
  rm -rf "$work/bin"
  mkdir "$work/bin"
  for real in bash sed grep env; do ln -s "$(command -v $real)" "$work/bin/$real"; done
  for tool in cmake ninja ccache g++ pkg-config chromium; do play $tool :; done
  play dpkg-query "for p in \"\${@:4}\"; do case \" $* \" in *\" \$p \"*) ;; *) echo \"installed \$p\" ;; esac; done"
  play apt-get "echo \"\$DEBIAN_FRONTEND apt-get \$*\" >>$work/log"
  play id 'echo 0'
  mkdir -p "$work/cache/frost/third_party/cudnn-frontend-1/include"
  : >"$work/log"
}
export XDG_CACHE_HOME=$work/cache
install() { status=0; PATH=$work/bin bash "$script" "$@" >"$work/out" 2>&1 </dev/null || status=$?; }
expect() {  # expect TITLE CONDITION...
  if ! "${@:2}"; then
    echo "FAILED: $1"
    cat "$work/out" "$work/log"
    failed=1
  fi
}
calls() { [ "$(wc -l <"$work/log")" = "$1" ]; }

machine
install
expect "nothing missing: succeeds" [ $status = 0 ]
expect "nothing missing: no apt-get" calls 0

machine libzip-dev doctest-dev
rm "$work/bin/ninja"
install
expect "root: succeeds" [ $status = 0 ]
expect "root: update, then install" calls 2
expect "root: asks nothing, names exactly what is missing" \
  grep -qE '^noninteractive apt-get .*-y .*install .*--no-install-recommends ninja-build libzip-dev doctest-dev$' "$work/log"

machine
rm "$work/bin/chromium"
install
expect "what only tests need is not installed unasked" calls 0
install tests
expect "tests: the browser is installed" grep -qE 'install .*--no-install-recommends chromium$' "$work/log"

machine
play nvcc :
play python3 'exit 1'
install
expect "nvcc, and cudnn-frontend is there: no apt-get" calls 0
rm -r "$work/cache"
install
expect "nvcc without cudnn-frontend and pip: pip is installed" grep -qE 'install .*--no-install-recommends python3-pip$' "$work/log"
machine
rm -r "$work/cache"
play nvcc :
play python3 '[ "$*" = "-m pip --version" ]'
install
expect "nvcc without cudnn-frontend, but with pip: no apt-get" calls 0

machine libzip-dev
play id 'echo 1000'
play sudo "echo \"sudo \$*\" >>$work/log; [ \"\$1\" = -n ] && shift; \"\$@\""
play true :
install
expect "sudo: succeeds" [ $status = 0 ]
expect "sudo: installs through it" grep -q '^sudo -n env DEBIAN_FRONTEND=noninteractive apt-get .*install .*libzip-dev' "$work/log"

machine libzip-dev
play id 'echo 1000'
install
expect "neither root nor sudo: fails" [ $status = 1 ]
expect "neither root nor sudo: says what is missing" grep -q 'missing: libzip-dev$' "$work/out"
expect "neither root nor sudo: says what to type" grep -q 'apt-get install -y libzip-dev$' "$work/out"

machine libzip-dev
play apt-get "echo \"\$*\" >>$work/log; exit 100"
install
expect "apt-get fails: fails" [ $status = 1 ]
expect "apt-get fails: says so" grep -q 'could not install' "$work/out"

exit $failed
