#!/usr/bin/env bash
# Puts programs of this machine into a container image, without an engine: an OCI archive.
#
#   image.sh ARCHIVE NAME ENTRYPOINT PROGRAM[:PATH]…
#
# The image holds each program, at PATH or where it is here, the libraries that it names, and a
# user, that of the project's Dockerfile; nothing else. ENTRYPOINT is a JSON list.
set -euo pipefail

archive=$1 name=$2 entrypoint=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root layout=$work/layout
mkdir -p "$root" "$layout/blobs/sha256"

for item in "$@"; do
  program=${item%%:*} path=${item#*:}
  mkdir -p "$root$(dirname "$path")"
  cp -L "$program" "$root$path"
  # Of each line the path, which is the third word, or the first one for the loader; the vdso has none. A
  # program that is linked statically names no library.
  { ldd "$program" 2>/dev/null || true; } \
    | awk '{ path = $2 == "=>" ? $3 : $1 } path ~ /^\// { print path }' \
    | while read -r library; do
      mkdir -p "$root$(dirname "$library")"
      cp -L "$library" "$root$library"
    done
done

# Kubernetes passes the number of the image's user on, and not that of its group: that is read here.
mkdir -p "$root/etc"
echo 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' > "$root/etc/passwd"
echo 'nonroot:x:65532:' > "$root/etc/group"

# Stores a file under its digest, and prints that.
blob() {
  local digest
  digest=$(sha256sum "$1" | cut -d ' ' -f 1)
  mv "$1" "$layout/blobs/sha256/$digest"
  echo "$digest"
}
size() { stat -c %s "$layout/blobs/sha256/$1"; }
case $(uname -m) in
  x86_64) architecture=amd64 ;;
  aarch64) architecture=arm64 ;;
  *) architecture=$(uname -m) ;;
esac

# The same files give the same layer.
tar --create --file "$work/layer" --directory "$root" --owner=0 --group=0 --numeric-owner --sort=name \
  --mtime=@0 --mode='u=rwX,go=rX' .
layer=$(blob "$work/layer")
cat > "$work/config" <<JSON
{"architecture":"$architecture","os":"linux",
 "config":{"User":"65532:65532","Entrypoint":$entrypoint,"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
 "rootfs":{"type":"layers","diff_ids":["sha256:$layer"]}}
JSON
config=$(blob "$work/config")
cat > "$work/manifest" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
 "config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$(size "$config")},
 "layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:$layer","size":$(size "$layer")}]}
JSON
manifest=$(blob "$work/manifest")
echo '{"imageLayoutVersion":"1.0.0"}' > "$layout/oci-layout"
cat > "$layout/index.json" <<JSON
{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",
 "digest":"sha256:$manifest","size":$(size "$manifest"),
 "platform":{"architecture":"$architecture","os":"linux"},
 "annotations":{"io.containerd.image.name":"$name","org.opencontainers.image.ref.name":"${name##*:}"}}]}
JSON
tar --create --file "$archive" --directory "$layout" oci-layout index.json blobs
