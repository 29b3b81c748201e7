"""NVIDIA H100, PCIe (2022)."""


class H100PCIe:
    name = "H100 PCIe"
    peak_flops = 756.5e12  # 1,513 TFLOP/s with sparsity
    memory_bytes = 80e9
    memory_bytes_per_second = 2e12
    power_watts = 350
    source = "NVIDIA H100 PCIe GPU product brief PB-11133-001 (2022) and data sheet"
