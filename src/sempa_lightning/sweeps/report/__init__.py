from sempa_lightning.sweeps.report.writer import write_report

__all__ = ["write_report"]
