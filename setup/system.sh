#!/bin/sh
# The system packages that set-up needs: what is missing is installed where this runs as root on Debian or Ubuntu, and
# otherwise named in one line with the command that installs it (exit code 2). When nothing is missing it takes 0.2 s.
# Usage: sh setup/system.sh [PYTHON [EXTRA]]  PYTHON: the interpreter that .venv is made with, python3.11 by default;
#                                             EXTRA: dev also installs Chromium, without which the tests of pages skip
set -u
python=${1:-python3.11}
extra=${2:-}
missing=

# Libraries are asked for by linking: Boost's headers all come in one package, so a header proves nothing.
links() { echo 'int main() {}' | g++ -x c++ - -o /dev/null "$@" 2>/dev/null; }

need() { # need PACKAGE COMMAND...: the package is missing when the command fails
  package=$1
  shift
  "$@" >/dev/null 2>&1 || missing="$missing $package"
}

need "${python##*/}" "$python" -c 'import sys'
need "${python##*/}-venv" "$python" -c 'import ensurepip, venv'
need "${python##*/}-dev" "$python" -c 'import sysconfig; open(sysconfig.get_path("include") + "/Python.h")'
need g++ command -v g++
need cmake command -v cmake
need ninja-build command -v ninja
need make command -v make
need git command -v git
if ! links -lboost_program_options -lboost_system -lboost_thread -lz -lbz2 -llzma; then
  need libboost-program-options-dev links -lboost_program_options
  need libboost-system-dev links -lboost_system
  need libboost-thread-dev links -lboost_thread
  need zlib1g-dev links -lz
  need libbz2-dev links -lbz2
  need liblzma-dev links -llzma
fi
if [ "$extra" = dev ] && [ "$(id -u)" = 0 ]; then # whoever is not root does without
  need chromium sh -c 'command -v chromium || command -v google-chrome'
fi
[ -n "$missing" ] || exit 0

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" != 0 ]; then
  echo "set-up: system packages are missing; install them and run this again: sudo $install" >&2
  exit 2
fi
if ! command -v apt-get >/dev/null; then
  echo "set-up: system packages are missing and there is no apt-get here; by Debian's names:$missing" >&2
  exit 2
fi
echo "set-up: installing system packages:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # one word a package
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null; }; then
  echo "set-up: apt-get could not install them; what failed is above; by hand: $install" >&2
  exit 2
fi
