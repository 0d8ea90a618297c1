"""Export trained weights to a verified .tflite file: conversion, verification, layer errors, card, QAT.

Called as a function, `nas.export` is `nas.api.export`.
"""
