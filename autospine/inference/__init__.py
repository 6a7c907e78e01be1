"""From trained models to masks: sliding window, merging of members, export to the scan's own grid."""
