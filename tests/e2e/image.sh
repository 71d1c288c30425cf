#!/usr/bin/env bash
# Builds a container image from programs of this machine, without an engine: an OCI archive.
#
#   image.sh ARCHIVE NAME ENTRYPOINT PROGRAM[:PATH]…
#
# The image contains each program, at PATH or at its own path, its shared libraries, and the user
# of the project's Dockerfile; nothing else. ENTRYPOINT is a JSON list.
set -euo pipefail

# shellcheck source=hack/image-layout.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../hack/image-layout.sh"

archive=$1 name=$2 entrypoint=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root layout=$work/layout
mkdir -p "$root"

for item in "$@"; do
  program=${item%%:*} path=${item#*:}
  mkdir -p "$root$(dirname "$path")"
  cp -L "$program" "$root$path"
  # The path is the third word of a line, or the first one for the loader; the vdso has none. A statically linked
  # program has no libraries.
  { ldd "$program" 2>/dev/null || true; } \
    | awk '{ path = $2 == "=>" ? $3 : $1 } path ~ /^\// { print path }' \
    | while read -r library; do
      mkdir -p "$root$(dirname "$library")"
      cp -L "$library" "$root$library"
    done
done

# Kubernetes passes on the image's user ID but not its group ID, which is looked up here.
mkdir -p "$root/etc"
echo 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' > "$root/etc/passwd"
echo 'nonroot:x:65532:' > "$root/etc/group"

pack_layer "$root" --owner=0 --group=0 --mode='u=rwX,go=rX' | write_layout "$layout" "$name" \
  '{"User":"65532:65532","Entrypoint":'"$entrypoint"',"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}'
tar --create --file "$archive" --directory "$layout" oci-layout index.json blobs
