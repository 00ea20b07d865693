"""Prints the values that `schedule.rs` is tested against, from plain Python floats (f64)."""

import math


def alpha_bars(betas):
    product, out = 1.0, []
    for beta in betas:
        product *= 1.0 - beta
        out.append(product)
    return out


T, START, END = 1000, 1e-4, 2e-2
linear = [START + (END - START) * i / (T - 1) for i in range(T)]
root = [math.sqrt(START) + (math.sqrt(END) - math.sqrt(START)) * i / (T - 1) for i in range(T)]
scaled = [r * r for r in root]


def f(t):
    return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2


cosine = [min(1 - f((i + 1) / T) / f(i / T), 0.999) for i in range(T)]

low, high = 0.02 ** (1 / 7), 80 ** (1 / 7)
sigmas = [(low + (high - low) * i / (T - 1)) ** 7 for i in range(T)]

print("linear beta 500", repr(linear[500]))
for t in (0, 99, 999):
    print("linear", t, repr(alpha_bars(linear)[t]))
print("scaled 500", repr(alpha_bars(scaled)[500]))
for t in (0, 500, 999):
    print("cosine", t, repr(alpha_bars(cosine)[t]))
for t in (0, 500, 999):
    print("karras", t, repr(1 / (1 + sigmas[t] ** 2)))
