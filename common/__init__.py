"""What every Tandem service shares at run time; runs on Python 3.8 and never imports torch."""
