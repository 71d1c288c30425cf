# shellcheck shell=bash
# To be sourced: creates and removes folders in the machine's cgroup hierarchies, which are the only part of these
# tests that is not removed with a namespace.

# Creates a folder in each hierarchy: one per controller in v1, a single one in v2.
make_cgroup() {
  local hierarchy file
  for hierarchy in $(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts); do
    mkdir -p "$hierarchy/$1" || return
    # In v1 a new cpuset is empty, and accepts no process until it is filled.
    for file in cpuset.cpus cpuset.mems; do
      if [ -e "$hierarchy/$1/$file" ] && [ -e "$hierarchy/$file" ]; then
        cat "$hierarchy/$file" > "$hierarchy/$1/$file" || return
      fi
    done
  done
}

# Removes the folders with this prefix from each hierarchy, recursively. They must not contain a process.
remove_cgroups() {
  local hierarchy folder status=0
  for hierarchy in $(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts); do
    for folder in "$hierarchy/$1"*; do
      [ ! -d "$folder" ] || find "$folder" -depth -type d -delete || status=1
    done
  done
  return $status
}
