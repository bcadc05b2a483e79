#!/bin/bash
# A folder of wheels for a cluster without internet.
#
#   bash deploy/wheelhouse.sh [--extras hpc] [--output wheelhouse] [--python python3]
#                             [--python-version 3.12] [--glibc 2.28] [-- PIP OPTIONS]
#
# Run it where there is internet, copy the folder over, and there:  bash wheelhouse/install.sh VENV
#
# --extras          of tomodask, with commas: hpc, learn, gpu-cu12, view. Default: hpc.
# --python          makes the wheels, and is what the cluster should have too, unless one of
# --python-version, --glibc  says that the cluster has another Python or an older C library than
#                   this machine (`ldd --version`; RHEL 8: 2.28, RHEL 9: 2.34). Every dependency
#                   is then taken as a wheel of the index; all are there, on Linux.
# PIP OPTIONS       go to pip. PyTorch for CPUs alone, 0.2 instead of 3 GB:
#                   --extras hpc,learn -- --extra-index-url https://download.pytorch.org/whl/cpu
set -euo pipefail

extras=hpc output=wheelhouse python=python3 python_version='' glibc=''
while (($#)); do
  case $1 in
    --extras | --output | --python | --python-version | --glibc)
      name=${1#--}
      printf -v "${name//-/_}" %s "${2?$1 needs a value}"
      shift 2
      ;;
    --) shift && break ;;
    *) echo "wheelhouse.sh: unknown argument '$1'; see the top of the file" >&2 && exit 2 ;;
  esac
done
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ -e "$output" ] && [ -n "$(ls -A "$output")" ]; then
  echo "wheelhouse.sh: $output is not empty, and two versions of a package must not meet there:" \
    "remove it, or name another folder by --output" >&2
  exit 2
fi
mkdir -p "$output"
output=$(cd "$output" && pwd)

# A copy: setuptools would leave its build/ in the checkout, and take up what an older one left.
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
cp -r "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" "$root/tomodask" "$source/"

if [ -z "$python_version$glibc" ]; then
  "$python" -m pip wheel --quiet "$@" --wheel-dir "$output" "$source${extras:+[$extras]}"
else
  "$python" -m pip wheel --quiet --no-deps "$@" --wheel-dir "$output" "$source"
  own=$(echo "$output"/*.whl)
  glibc=${glibc:-2.28}
  target=(--only-binary=:all: ${python_version:+--python-version "$python_version"})
  for ((minor = ${glibc#*.}; minor >= 5; minor--)); do
    target+=(--platform "manylinux_2_${minor}_$(uname -m)")  # pip takes just what is named
  done
  "$python" -m pip download --quiet "$@" "${target[@]}" --platform "manylinux2014_$(uname -m)" \
    --dest "$output" "$own${extras:+[$extras]}"
fi

# Every wheel with its version and hash: what is installed there is what was fetched here.
"$python" - "$output" "$python_version" <<'END'
import email.parser, hashlib, pathlib, platform, re, sys, zipfile

folder, version = pathlib.Path(sys.argv[1]), sys.argv[2]
lines, glibc = [], 0
for wheel in sorted(folder.glob("*.whl"), key=lambda wheel: wheel.name.lower()):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        about = email.parser.Parser().parsestr(archive.read(name).decode())
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lines.append(f"{about['Name']}=={about['Version']} --hash=sha256:{digest}\n")
    needs = [int(minor) for minor in re.findall(r"manylinux_2_(\d+)_", wheel.name)]
    glibc = max(glibc, min(needs, default=0))
(folder / "requirements.txt").write_text("".join(lines))
made_for = version or "{}.{}".format(*sys.version_info)
(folder / "python.txt").write_text(f"{made_for} {platform.machine()} {glibc}\n")
END

cat > "$output/install.sh" <<'END'
#!/bin/bash
# bash install.sh VENV [PYTHON]: a virtual environment of these wheels, without internet.
# VENV lies on a file system that the compute nodes see too.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${1:?usage: bash install.sh VENV [PYTHON]}
python=${2:-python3}
read -r version machine glibc < "$here/python.txt"
read -r found_version found_machine found_glibc < <("$python" -c '
import platform, sys
libc = platform.libc_ver()[1].split(".")[1:] or ["0"]
print("{}.{}".format(*sys.version_info), platform.machine(), libc[0])')
if [ "$found_version $found_machine" != "$version $machine" ]; then
  echo "install.sh: the wheels are for Python $version on $machine, $python is $found_version on" \
    "$found_machine: name another ('bash install.sh VENV python$version'), or make the wheelhouse" \
    "with --python-version $found_version" >&2
  exit 2
fi
if ((found_glibc < glibc)); then
  echo "install.sh: a wheel needs glibc 2.$glibc, here is 2.$found_glibc: make the wheelhouse with" \
    "--glibc 2.$found_glibc" >&2
  exit 2
fi
"$python" -m venv "$venv"
# --no-index: nothing is asked for; the hashes: nothing else is taken.
"$venv/bin/python" -m pip install --quiet --no-index --find-links "$here" --require-hashes \
  --requirement "$here/requirements.txt"
"$venv/bin/tomodask" --version
echo "ready: source $venv/bin/activate"
END
echo "$(ls "$output"/*.whl | wc -l) wheels, $(du -sh "$output" | cut -f1): copy $output to the cluster," \
  "then 'bash $(basename "$output")/install.sh VENV' there"
