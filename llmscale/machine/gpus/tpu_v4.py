"""Google TPU v4, one chip (2021)."""


class TPUv4:
    name = "TPU v4"
    peak_flops = 275e12
    memory_bytes = 32e9
    memory_bytes_per_second = 1200e9
    power_watts = 192  # the most that was measured
    source = "Jouppi et al. 2023 (TPU v4), table 4"
    mfu = 0.462
    mfu_source = "Chowdhery et al. 2022 (PaLM), table 3: 540B on 6,144 chips, 46.2%"
