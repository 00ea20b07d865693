"""What is known of the machine that figures are taken on, and of what else it does meanwhile."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    flags: set[str] = set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                cpu = value.strip()
            elif key.strip() == "flags":
                flags = set(value.split())
    simd = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "simd": [name for name in simd if name in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def machine_in_words(machine: dict[str, Any]) -> str:
    simd = f" ({', '.join(machine['simd'])})" if machine["simd"] else ""
    return f"{machine['cpu']}, {machine['cores']} cores{simd}, {machine['memory_gib']} GiB, {machine['system']}"


def busy_cpu_seconds() -> float | None:
    """CPU time that all processes have used, and that a hypervisor has taken away."""
    with contextlib.suppress(OSError):
        user, nice, system, _idle, _iowait, irq, softirq, steal = (
            int(ticks) for ticks in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        )
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return None
