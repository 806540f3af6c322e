#!/bin/sh
# Everything that the tests need, on Debian or Ubuntu with Node and npm: system packages, then the packages of the
# lockfile (which bring the Node that every npm script runs on), then the addon for libtorch. Safe to run again.
set -eu
cd "$(dirname "$0")/.."

# onnxruntime-node's library is C++ and links the system's runtime; the commands that the server prints are for curl.
# TorchScript models run on libtorch, by an addon that g++ builds; python's torch makes the models that the tests run.
# Traces come packed by xz. Without openblas libtorch would multiply by the reference BLAS, twenty times slower.
packages="libstdc++6 curl xz-utils g++ libtorch-dev libopenblas0-pthread python3-torch python3-torchvision"
# The servers that tests and benchmarks start for themselves, on free ports.
packages="$packages redis-server memcached"
# Makes the certificate of the server that speaks TLS.
packages="$packages openssl"

missing=""
if command -v dpkg-query >/dev/null 2>&1; then
  for package in $packages; do
    state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$state" = "install ok installed" ] || missing="$missing $package"
  done
else
  echo "setup: this is not Debian or Ubuntu; make sure that these are there: $packages"
fi

if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ]; then
    as_root=""
  elif command -v sudo >/dev/null 2>&1; then
    as_root="sudo"
  else
    echo "setup: these packages are missing and only root can install them: apt-get install$missing" >&2
    exit 1
  fi
  $as_root apt-get update -q
  # shellcheck disable=SC2086 # a list of names
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
fi

npm ci
npm run build:torch
