# shellcheck shell=bash
# To be sourced: folders in the machine's control groups, made and removed. They are the one thing of these
# tests that no namespace takes away with it.

# Makes a folder in each hierarchy: of each controller of version 1, or in the one of version 2.
make_cgroup() {
  local hierarchy file
  for hierarchy in $(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts); do
    mkdir -p "$hierarchy/$1" || return
    # In version 1 a new cpuset is empty, and takes no process until it is filled.
    for file in cpuset.cpus cpuset.mems; do
      if [ -e "$hierarchy/$1/$file" ] && [ -e "$hierarchy/$file" ]; then
        cat "$hierarchy/$file" > "$hierarchy/$1/$file" || return
      fi
    done
  done
}

# Removes the folders that begin so from each, and those in them. No process may be left there.
remove_cgroups() {
  local hierarchy folder status=0
  for hierarchy in $(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts); do
    for folder in "$hierarchy/$1"*; do
      [ ! -d "$folder" ] || find "$folder" -depth -type d -delete || status=1
    done
  done
  return $status
}
