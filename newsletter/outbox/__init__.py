"""
From an approved edition to a balanced account: freeze, claim, submit, settle, resume, explain.

Edition::

    draft ──▶ approved ──▶ submitting ──▶ submitted
      │ ▲        │            │   ▲
      ▼ │        ▼            ▼   │
    held ──▶ (approved)     paused        draft, held, approved, submitting, paused ──▶ spiked
                                          draft, held ──▶ skipped
                                          submitted ──▶ submitting   to those who got nothing (``missed``)
Batch::

    pending ──▶ submitting ──▶ submitted
     ▲  │ │         ├────────▶ pending     certainly refused: nothing was taken
     │  │ │         ├────────▶ failed      certainly refused for good
     │  │ │         └────────▶ uncertain ──▶ submitted | pending | failed | abandoned   by evidence or a person's word
     │  │ └───▶ withdrawn   the edition was spiked or corrected before it went   │          │
     │  │        │  ▲ submitted, uncertain: called back from a schedule to be corrected     │
     │  │        ▼                                                               │          │
     │  └─────▶ submitted   an attempt that was given up turns out to have been taken ◀─────┘
     └───────────────────────────────────────────────────────────────────────────┘

Every arrow is one conditional UPDATE (``ledger.move_edition``, ``ledger.move_batch``); there is no
other way to change a state. A claim is committed before the first byte leaves, together with who
will go out with it: so after a crash it is known whom an uncertain batch may have reached. Always:
audience = pending + submitted + skipped + failed + uncertain (``accounts.audit``).
"""
