#!/usr/bin/env bash
# Puts Consul's server into .cache/consul/consul for the lab and the tests. Debian 11 was the last release that carried it, so its package is fetched from the mirror that this
# system's own apt uses, with an apt configuration that is private to .cache (lists, cache, sources), and unpacked; nothing is installed and the system's apt is left as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
dir="$PWD/.cache/consul"
if [ -x "$dir/consul" ] || command -v consul >/dev/null 2>&1; then exit 0; fi
fail() {
  echo "Consul is missing: $1. Put a consul binary (1.4 or newer) into PATH, or name it in DNET_CONSUL." >&2
  exit 1
}
command -v apt-get >/dev/null 2>&1 || fail "this system has no apt-get to fetch Debian 11's package with"
mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9
[ -x "$dir/consul" ] && exit 0

# The mirrors of the release itself (not its security or update archives, nor third parties): the one-line format, then deb822.
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
mapfile -t mirrors < <(
  { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true; } | sed 's/\[[^]]*\]//' |
    awk -v suite="$codename" '$1 == "deb" && $3 == suite && / main( |$)/ { print $2 }'
  for file in /etc/apt/sources.list.d/*.sources; do
    [ ! -r "$file" ] || awk -v suite="$codename" 'BEGIN { RS = ""; FS = "\n" } {
      uris = ""; found = 0; main = 0
      for (i = 1; i <= NF; i++) {
        n = split($i, word, /[ \t]+/)
        for (j = 2; j <= n; j++) {
          if (word[1] == "URIs:" && uris == "") uris = word[j]
          if (word[1] == "Suites:" && word[j] == suite) found = 1
          if (word[1] == "Components:" && word[j] == "main") main = 1
        }
      }
      if (found && main) print uris
    }' "$file"
  done
)
[ ${#mirrors[@]} -gt 0 ] || fail "no Debian mirror stands in this system's apt sources"

echo "fetching consul (Debian 11's package) into .cache ..."
apt="$dir/apt"
for mirror in "${mirrors[@]}"; do
  rm -rf "$apt"
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/root"
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  signed=""
  [ -r "$keyring" ] && signed="[signed-by=$keyring] "
  echo "deb $signed$mirror bullseye main" >"$apt/sources.list"
  # Hooks of the system's configuration would work on the system's directories; its proxies stay in force.
  cat >"$apt/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
CONF
  if apt-get -c "$apt/apt.conf" -qq update >"$apt/log" 2>&1 &&
    (cd "$apt" && apt-get -c "$apt/apt.conf" -qq download consul >>"$apt/log" 2>&1) &&
    dpkg -x "$apt"/consul_*.deb "$apt/root" 2>>"$apt/log" && "$apt/root/usr/bin/consul" version >>"$apt/log" 2>&1; then
    mv "$apt/root/usr/bin/consul" "$dir/consul"
    rm -rf "$apt"
    exit 0
  fi
done
fail "the mirror did not give Debian 11's package ($(grep -m1 -E '^[EW]:' "$apt/log" || tail -n 1 "$apt/log"))"
