"""Google TPU v5p, one chip (2023)."""


class TPUv5p:
    name = "TPU v5p"
    peak_flops = 459e12
    memory_bytes = 95e9
    memory_bytes_per_second = 2765e9
    power_watts = None  # not published
    source = "Google Cloud, TPU v5p: system architecture (2023)"
    mfu = 0.51
    mfu_source = (
        "MaxText configs/v5p/README.md (2024): 32B to 1,024B on 64 to 4,096 chips, 51.6% to 71.5%"
    )
