"""AMD Instinct MI300X, OAM (2023)."""


class MI300X:
    name = "MI300X"
    peak_flops = 1307.4e12  # 2,614.9 TFLOP/s with sparsity
    memory_bytes = 192e9
    memory_bytes_per_second = 5.3e12
    power_watts = 750
    source = "AMD Instinct MI300X accelerator data sheet (2023), note MI300-11"
