"""NVIDIA GeForce RTX 4090 (2022)."""


class RTX4090:
    name = "RTX 4090"
    peak_flops = 165.2e12  # summed in float32; 330.4 TFLOP/s with sparsity
    memory_bytes = 24e9
    memory_bytes_per_second = 1008e9
    power_watts = 450
    source = "NVIDIA Ada GPU architecture white paper (2022), appendix A"
