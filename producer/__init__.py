"""The person with questions: workbook in, rows to the workers, workbook out."""
