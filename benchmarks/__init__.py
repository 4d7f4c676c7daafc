"""Measurements that anyone can run again: each a program that prints JSON."""
