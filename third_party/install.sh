#!/usr/bin/env bash
# Installs the dependencies that are missing, from Debian's packages: as root, else with sudo. Asks nothing; where nothing
# is missing it changes nothing and takes a few milliseconds. `install.sh tests` also installs what only tests need.
set -euo pipefail

# A tool counts as there when it can be called, wherever it came from; a library when its package is installed.
tools=(cmake:cmake ninja:ninja-build ccache:ccache g++:g++ pkg-config:pkg-config)
libraries=(
  libdnnl-dev          # convolution and matrix products on the CPU
  libfmt-dev           # text
  libyaml-cpp-dev      # model, data and hyperparameter files
  nlohmann-json3-dev   # checkpoint headers, COCO files
  libcli11-dev         # command lines
  libzip-dev           # PyTorch checkpoints are zip files
  libjpeg62-turbo-dev  # JPEG
  libpng-dev           # PNG; zlib comes with it
  libwebp-dev          # WebP
  libtiff-dev          # TIFF
  libstb-dev           # PNG and BMP, written
  libcurl4-openssl-dev # downloads of weights
  ca-certificates      # ... over https
  doctest-dev          # tests
)

[ "${1:-}" != tests ] || tools+=(chromium:chromium)  # opens the page of yolo-explain

missing=()
for entry in "${tools[@]}"; do
  command -v "${entry%%:*}" >/dev/null || missing+=("${entry##*:}")
done
if command -v dpkg-query >/dev/null; then
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${libraries[@]}" 2>/dev/null | sed -n 's/^installed //p' || true)
  for package in "${libraries[@]}"; do
    grep -qx "$package" <<<"$installed" || missing+=("$package")
  done
  # With nvcc the CUDA backend is built, for which CMake takes a wheel's headers (cudnn_frontend.cmake): once, by pip.
  if PATH=$PATH:/usr/local/cuda/bin command -v nvcc >/dev/null && [ ! -e /usr/include/cudnn_frontend.h ] &&
    ! compgen -G "${XDG_CACHE_HOME:-${HOME:-}/.cache}/frost/third_party/cudnn-frontend-*/include" >/dev/null &&
    ! python3 -m pip --version >/dev/null 2>&1; then
    missing+=(python3-pip)
  fi
elif ((${#missing[@]} == 0)); then
  exit 0  # not Debian: CMake looks for the libraries and names what it does not find
fi
((${#missing[@]} > 0)) || exit 0

complain() {
  echo "frost: missing: ${missing[*]}" >&2
  echo "frost: $1; as root: apt-get install -y ${missing[*]}" >&2
  exit 1
}
command -v apt-get >/dev/null || complain "only Debian's packages are known here (no apt-get)"
as_root=()
if [ "$(id -u)" != 0 ]; then
  { command -v sudo && sudo -n true; } >/dev/null 2>&1 || complain "neither root nor a sudo that asks no password"
  as_root=(sudo -n)
fi

echo "frost: installing ${missing[*]}"
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" </dev/null; }
apt update >/dev/null || echo "frost: apt-get update failed; trying with the package lists as they are" >&2
apt install --no-install-recommends "${missing[@]}" || complain "apt-get could not install them"
