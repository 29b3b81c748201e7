"""NVIDIA H200, SXM (2024)."""


class H200:
    name = "H200 SXM"
    peak_flops = 989.4e12  # 1,979 TFLOP/s with sparsity
    memory_bytes = 141e9
    memory_bytes_per_second = 4.8e12
    power_watts = 700
    source = "NVIDIA H200 Tensor Core GPU data sheet (2023)"
    mfu = 0.33
    mfu_source = "assumed to be that of the H100, which has the same peak"
