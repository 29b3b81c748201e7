"""NVIDIA L40S, PCIe (2023)."""


class L40S:
    name = "L40S"
    peak_flops = 362.05e12  # 733 TFLOP/s with sparsity
    memory_bytes = 48e9
    memory_bytes_per_second = 864e9
    power_watts = 350
    source = "NVIDIA L40S GPU data sheet (2023)"
