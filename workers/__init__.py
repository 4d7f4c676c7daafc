"""The machines that answer: one engine per process, fed by Celery."""
