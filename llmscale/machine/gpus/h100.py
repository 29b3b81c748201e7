"""NVIDIA H100, SXM (2022)."""


class H100:
    name = "H100 SXM"
    peak_flops = 989.4e12  # 1,979 TFLOP/s with sparsity
    memory_bytes = 80e9
    memory_bytes_per_second = 3.35e12
    power_watts = 700
    source = "NVIDIA H100 Tensor Core GPU architecture white paper (2022) and data sheet"
    mfu = 0.33
    mfu_source = (
        "torchtitan benchmarks/llama3_h100_202412 (2024): Llama 3.1 8B by FSDP2 on 8 to 128 H100 "
        "of at most 500 W, 33% to 39%"
    )
