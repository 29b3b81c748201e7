"""Google TPU v5p, one chip (2023)."""


class TPUv5p:
    name = "TPU v5p"
    peak_flops = 459e12
    memory_bytes = 95e9
    memory_bytes_per_second = 2765e9
    power_watts = None  # not published
    source = "Google Cloud, TPU v5p system architecture"
