"""NVIDIA L4, PCIe (2023)."""


class L4:
    name = "L4"
    peak_flops = 121e12  # 242 TFLOP/s with sparsity
    memory_bytes = 24e9
    memory_bytes_per_second = 300e9
    power_watts = 72
    source = "NVIDIA L4 Tensor Core GPU data sheet (2023)"
