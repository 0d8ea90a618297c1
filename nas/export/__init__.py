"""Export trained weights to a verified .tflite file: conversion, verification, layer errors, card, QAT."""
