"""NVIDIA A100 with 40 GB, SXM (2020)."""


class A100SXM40:
    name = "A100 SXM 40 GB"
    peak_flops = 312e12  # 624 TFLOP/s with sparsity
    memory_bytes = 40e9
    memory_bytes_per_second = 1555e9
    power_watts = 400
    source = "NVIDIA A100 Tensor Core GPU architecture white paper (2020)"
