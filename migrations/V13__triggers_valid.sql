-- The rules of V12 hold for every row that was there before.

alter table record_action validate constraint record_action_verdict_names_request;
alter table record_action validate constraint record_action_rejection_has_reason;
alter table record_action validate constraint record_action_annotation_of_verdict;
