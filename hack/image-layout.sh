# shellcheck shell=bash
# To be sourced: writes a container image with one layer as an OCI layout, without an engine. The layout is a folder
# with blobs named by their digest, and an index with the name of the image.

# The architecture of this machine, as in image platforms.
image_architecture() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) uname -m ;;
  esac
}

# pack_layer ROOT [OPTION…] | write_layout …   packs a folder. The same files result in the same layer. The options
# are for tar.
pack_layer() { tar --create --directory "$1" --numeric-owner --sort=name --mtime=@0 "${@:2}" .; }

# write_layout LAYOUT NAME CONFIG   with the layer on stdin. CONFIG is the container configuration, in JSON.
write_layout() {
  local layout=$1 name=$2 config=$3 architecture layer digest
  architecture=$(image_architecture)
  mkdir -p "$layout/blobs/sha256"
  layer=$(store_blob "$layout")
  digest=$(store_blob "$layout" <<JSON
{"architecture":"$architecture","os":"linux","config":$config,
 "rootfs":{"type":"layers","diff_ids":["sha256:$layer"]}}
JSON
  )
  digest=$(store_blob "$layout" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
 "config":{"mediaType":"application/vnd.oci.image.config.v1+json",$(blob_of "$layout" "$digest")},
 "layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar",$(blob_of "$layout" "$layer")}]}
JSON
  )
  echo '{"imageLayoutVersion":"1.0.0"}' > "$layout/oci-layout"
  cat > "$layout/index.json" <<JSON
{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",
 $(blob_of "$layout" "$digest"),
 "platform":{"architecture":"$architecture","os":"linux"},
 "annotations":{"io.containerd.image.name":"$name","org.opencontainers.image.ref.name":"${name##*:}"}}]}
JSON
}

# layout_digest LAYOUT   prints the digest of the image.
layout_digest() { sed -n 's/.*"digest":"\(sha256:[0-9a-f]*\)".*/\1/p' "$1/index.json"; }

# Stores stdin as a blob, and prints its digest.
store_blob() {
  local new=$1/blobs/sha256/new digest
  digest=$(tee "$new" | sha256sum | cut -d ' ' -f 1)
  mv "$new" "$1/blobs/sha256/$digest"
  echo "$digest"
}

# The reference to a blob in a manifest.
blob_of() { printf '"digest":"sha256:%s","size":%s' "$2" "$(stat -c %s "$1/blobs/sha256/$2")"; }
