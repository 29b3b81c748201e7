"""NVIDIA A100 with 80 GB, PCIe (2021)."""


class A100PCIe:
    name = "A100 PCIe 80 GB"
    peak_flops = 312e12  # 624 TFLOP/s with sparsity
    memory_bytes = 80e9
    memory_bytes_per_second = 1935e9
    power_watts = 300
    source = "NVIDIA A100 Tensor Core GPU data sheet (2021)"
