from sempa_lightning.evaluation.report.writer import write_report

__all__ = ["write_report"]
