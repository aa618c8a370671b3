"""Make the project's own .venv (and, for the tests, the display libraries): called by the Makefile.

Usage: python3 scripts/setup_venv.py {demo,test}

Only the standard library, and syntax that Python 3.6 can read, so that an old Python gets one clear
line instead of a traceback.
"""

import ctypes
import os
import re
import shutil
import subprocess
import sys

OLDEST = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
CONSTRAINTS = os.path.join(ROOT, "constraints.txt")
PROJECT = {
    "demo": ["-e", ROOT + "[files]"],
    "test": ["-e", ROOT, "--group", os.path.join(ROOT, "pyproject.toml") + ":dev"],
}

# What a Qt window needs on a bare Debian or Ubuntu: library (or program) -> package
DISPLAY = {
    "Xvfb": "xvfb",
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libOpenGL.so.0": "libopengl0",
    "libGLX_mesa.so.0": "libglx-mesa0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xinerama.so.0": "libxcb-xinerama0",
}


class SetupError(Exception):
    """One line for the person: what is missing and how to get it."""


def main(target):
    """Prepare everything that `make demo` or `make test` needs."""
    use_new_enough_python()
    if target == "test" and sys.platform.startswith("linux"):
        install_display_libraries()  # first: it is quick, and the likeliest to need the person
    make_venv()
    refuse_cuda()
    install(*PROJECT[target])


def use_new_enough_python():
    """Go on in a newer Python of this machine if this one is too old."""
    if sys.version_info >= OLDEST:
        return
    for minor in range(14, OLDEST[1] - 1, -1):
        newer = shutil.which(f"python3.{minor}")
        if newer and succeeds([newer, "-c", "pass"]):
            os.execv(newer, [newer, *sys.argv])
    raise SetupError(
        f"Python {dotted(OLDEST)} or newer is needed, this is {dotted(sys.version_info)}: install "
        "one, or name it with 'make PYTHON=/path/to/python3'."
    )


# ---- The virtual environment ---------------------------------------------------------------------


def make_venv():
    """Create .venv with a recent pip, unless it is there and works."""
    if succeeds([venv_python(), "-m", "pip", "--version"]):
        return
    say("Making .venv")
    package = f"python{dotted(sys.version_info)}-venv"
    has_venv = [sys.executable, "-c", "import ensurepip, venv"]  # Debian splits these off
    if succeeds(has_venv) or (apt_install([package]) and succeeds(has_venv)):
        run([sys.executable, "-m", "venv", "--clear", VENV])
    elif shutil.which("virtualenv"):
        run(["virtualenv", "--quiet", "--clear", "--python", sys.executable, VENV])
    else:
        raise SetupError(
            f"This Python has no venv module: run 'sudo apt-get install {package}', or install "
            "virtualenv, and try again."
        )
    install("--upgrade", "pip")


def refuse_cuda():
    """Stop before torch brings gigabytes of CUDA libraries, unless the person wants them."""
    if os.environ.get("CUDA") == "1" or succeeds([venv_python(), "-c", "import torch"]):
        return
    with open(CONSTRAINTS) as lines:
        torch = next(line.strip() for line in lines if line.startswith("torch=="))
    plan = [venv_python(), "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", torch]
    report = subprocess.run(plan, stdout=subprocess.PIPE, text=True).stdout
    if re.search(r'"name": "(nvidia|cuda)-', report):
        raise SetupError(
            f"Your package index offers {torch} only with gigabytes of CUDA libraries: point "
            "pip at a CPU build (README, 'Choosing a torch build'), or accept them with CUDA=1."
        )


def install(*what):
    """Install into .venv, at the versions of constraints.txt."""
    if what[0] == "-e":
        say("Installing (a few minutes the first time)")
    quiet = ["-qq", "--disable-pip-version-check", "--no-input"]
    run([venv_python(), "-m", "pip", "install", *quiet, "-c", CONSTRAINTS, *what])


def venv_python():
    """Path of the environment's own interpreter."""
    folder, name = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return os.path.join(VENV, folder, name)


# ---- The display ---------------------------------------------------------------------------------


def install_display_libraries():
    """Install what a window on a virtual screen needs, or say in one line what is missing."""
    missing = [package for name, package in sorted(DISPLAY.items()) if not is_there(name)]
    if missing and not apt_install(missing):
        raise SetupError(
            "The window tests need a virtual display: run "
            f"'sudo apt-get install {' '.join(missing)}' (or your system's packages of these) and "
            "try again."
        )


def is_there(name):
    """Tell whether a shared library can be loaded, or a program found."""
    if ".so" not in name:
        return shutil.which(name) is not None
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def apt_install(packages):
    """Install Debian packages if we may without asking; False if we may not or it failed."""
    if not shutil.which("apt-get"):
        return False
    rights = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if rights and not (shutil.which("sudo") and succeeds(["sudo", "-n", "true"])):
        return False
    say("Installing system packages: " + " ".join(packages))
    apt = [*rights, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    succeeds([*apt, "update"])
    return succeeds([*apt, "install", "-y", "--no-install-recommends", *packages])


# ---- Running things ------------------------------------------------------------------------------


def run(command):
    """Run a command that must succeed; its own output says why if it does not."""
    if subprocess.call(command) != 0:
        raise SetupError("This step failed, see above: " + " ".join(command))


def succeeds(command):
    """Run a command silently and tell whether it succeeded."""
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def dotted(version):
    """Write major and minor version as people do."""
    return f"{version[0]}.{version[1]}"


def say(line):
    """Tell the person what takes time."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PROJECT:
        sys.exit("usage: setup_venv.py {demo,test}")
    try:
        main(sys.argv[1])
    except SetupError as error:
        sys.exit(str(error))
