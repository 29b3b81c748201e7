"""NVIDIA B200, SXM (2025)."""


class B200:
    name = "B200 SXM"
    peak_flops = 2250e12  # 4.5 PFLOP/s with sparsity
    memory_bytes = 180e9
    memory_bytes_per_second = 8e12  # as it is sold; drivers tell of 7.67e12 (pytorch/ao #4002)
    power_watts = 1000
    source = "NVIDIA Blackwell architecture technical brief (2024), HGX B200; DGX B200 data sheet"
