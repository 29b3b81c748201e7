"""Fine-tuning: trained models learn a task, many of them in one sweep."""
