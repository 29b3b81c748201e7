"""NVIDIA A100 with 80 GB, SXM (2020)."""


class A100:
    name = "A100 SXM 80 GB"
    peak_flops = 312e12  # 624 TFLOP/s with sparsity
    memory_bytes = 80e9
    memory_bytes_per_second = 2039e9
    power_watts = 400
    source = "NVIDIA A100 Tensor Core GPU data sheet (2021)"
    mfu = 0.5
    mfu_source = (
        "torchtitan docs/performance.md (2024): Llama 2 and 3, 8B to 70B, by FSDP2 on 64 A100, "
        "50.5% to 61.1%"
    )
