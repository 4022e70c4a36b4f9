"""What a process keeps and does beside calls: settings, queues, helper processes, errands, prices."""
