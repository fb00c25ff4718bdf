"""An image without a container engine: a base out of this machine's Python, buildah, and a container by hand."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.tools import DEPLOY, ENVIRONMENT, run, succeed, tool, without
from tests.servers import ROOT

BASE, IMAGE = "localhost/base:tests", "localhost/glm-gateway:tests"
# What wheels load besides (PEP 513, PEP 600), which every base for them has.
LIBRARIES = ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libresolv.so.2", "libm.so.6")
LIBRARIES += ("libgcc_s.so.1", "libstdc++.so.6", "libnss_files.so.2", "libnss_dns.so.2")
PROGRAMS = ("sh", "rm", "install", "env")  # what the Dockerfile runs besides Python
USER = 10001
ENGINE_UMASK = 0o022  # of every container engine, whatever the umask of who asks it
STEP_SECONDS = 300  # some 30 on an idle machine
# The container: a mount and process namespace, a read-only root, and no way to more rights.
CONTAINER = """
set -e
root=$1; data=$2; shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind "$data" "$root/var/lib/glm-gateway"
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs chroot --userspec=10001:10001 "$root" "$@"
"""


class Builder:
    """buildah with a storage of its own."""

    def __init__(self, folder):
        self._binary = tool("buildah")
        if os.geteuid() != 0:
            without("root, which buildah needs for its chroot isolation")
        self._folder = folder
        self._driver = "overlay"
        self._env = {**os.environ, "BUILDAH_ISOLATION": "chroot", "TMPDIR": str(folder)}

    def __call__(self, *words, seconds=STEP_SECONDS):
        return succeed(*self._command, *words, env=self._env, seconds=seconds)

    @property
    def _command(self):
        places = ["--root", self._folder / "storage", "--runroot", self._folder / "run"]
        return [self._binary, "--storage-driver", self._driver, *places]

    @contextmanager
    def storage(self):
        """Store images while the block runs: as overlays, or as copies where the kernel has none (slower)."""
        if run(*self._command, "info", env=self._env)[0] != 0:
            self._driver = "vfs"
        mask = os.umask(ENGINE_UMASK)
        try:
            yield self
        finally:
            os.umask(mask)
            self("umount", "--all")
            self("rm", "--all")
            run("umount", self._folder / "storage" / "overlay")
            shutil.rmtree(self._folder)

    def make_base(self):
        """Make an image like python:slim of the interpreter that runs the tests."""
        container = self("from", "scratch").splitlines()[-1]
        _fill(Path(self("mount", container).splitlines()[-1]))
        self("commit", "--quiet", "--disable-compression", "--rm", container, BASE)

    def build(self, wheels):
        """Build deploy/Dockerfile; the wheels of the lock come from a folder instead of an index."""
        pip_conf = self._folder / "pip.conf"
        pip_conf.write_text("[global]\nno-index = true\nfind-links = /index\n", "utf-8")
        secret = ["--secret", f"id=pip,src={pip_conf}", "--volume", f"{wheels}:/index:ro"]
        ignore = ["--ignorefile", DEPLOY / "Dockerfile.dockerignore"]
        options = ["--quiet", "--format", "docker", "--network", "host", "--disable-compression"]
        place = ["--build-arg", f"BASE={BASE}", "-f", DEPLOY / "Dockerfile", "-t", IMAGE, ROOT]
        self("bud", *options, *secret, *ignore, *place)

    def root(self):
        """Give the folder with the image's files, and its configuration."""
        container = self("from", "--pull-never", IMAGE).splitlines()[-1]
        folder = Path(self("mount", container).splitlines()[-1])
        return folder, json.loads(self("inspect", container))["Docker"]["config"]


def wheels_of_the_lock(folder):
    """Fetch what requirements.lock names from the index that this machine uses."""
    pip = [ENVIRONMENT / "python", "-m", "pip", "--python", sys.executable]
    options = ["--quiet", "--only-binary", ":all:", "--require-hashes", "--dest", folder]
    succeed(*pip, "download", *options, "-r", ROOT / "requirements.lock", seconds=STEP_SECONDS)
    return folder


@contextmanager
def container(root, config, data, environment, *command, log):
    """Run a command, else the image's own, as a container engine would; it is process 1 there."""
    os.chown(data, USER, USER)
    set_up = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CONTAINER, "sh", root, data]
    env = dict(line.split("=", 1) for line in config["Env"]) | environment
    words = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in env.items())]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*set_up, *words, *(command or [*config["Entrypoint"], *config["Cmd"]])], stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _fill(root):
    """Copy the interpreter, a few programs, and the libraries that all of these load."""
    for name in ("proc", "dev", "sys", "tmp", "etc", "run", "var/lib", "usr/bin"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "bin").symlink_to("usr/bin")
    binaries = _copy_python(root)
    for name in PROGRAMS:
        binaries.append(root / "usr/bin" / name)
        shutil.copy(os.path.realpath(shutil.which(name)), binaries[-1])
    for binary in binaries:
        _copy_libraries(binary, root)
    [libc] = root.rglob("libc.so.6")
    for name in LIBRARIES:
        if (Path("/") / libc.relative_to(root).with_name(name)).exists():
            shutil.copy(Path("/") / libc.relative_to(root).with_name(name), libc.with_name(name))


def _copy_python(root):
    """Copy the interpreter that runs the tests to where python:slim has its own; give what loads libraries."""
    version, local = f"python{sys.version_info.major}.{sys.version_info.minor}", root / "usr/local"
    leave = shutil.ignore_patterns("site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__", "*.a")
    shutil.copytree(sysconfig.get_path("stdlib"), local / "lib" / version, ignore=leave)
    (local / "lib" / version / "site-packages").mkdir()
    (local / "bin").mkdir()
    shutil.copy(os.path.realpath(Path(sys.base_prefix) / "bin" / version), local / "bin" / version)
    for name in ("python", "python3"):
        (local / "bin" / name).symlink_to(version)
    for share in ("zoneinfo", "python-wheels"):  # Debian keeps the wheels of ensurepip apart
        if (Path("/usr/share") / share).is_dir():
            shutil.copytree(Path("/usr/share") / share, root / "usr/share" / share, symlinks=True)
    interpreter = Path(os.path.realpath(Path(sys.base_prefix) / "bin" / version))  # it finds its own beside itself
    return [interpreter, *(local / "lib" / version / "lib-dynload").glob("*.so")]


def _copy_libraries(binary, root):
    for line in subprocess.run(["ldd", binary], capture_output=True, text=True, check=False).stdout.splitlines():
        path = next((Path(word) for word in line.split() if word.startswith("/")), None)
        if path and not (root / path.relative_to("/")).exists():
            target = root / path.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
