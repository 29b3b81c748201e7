"""NVIDIA V100 with 32 GB, SXM2 (2017), which multiplies float16 and no bfloat16."""


class V100:
    name = "V100 SXM2 32 GB"
    peak_flops = 125e12  # in float16
    memory_bytes = 32e9
    memory_bytes_per_second = 900e9
    power_watts = 300
    source = "NVIDIA V100 Tensor Core GPU data sheet (2018)"
    mfu = 0.213
    mfu_source = "Chowdhery et al. 2022 (PaLM), table 3: GPT-3, 21.3%"
