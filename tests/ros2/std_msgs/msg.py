from messages_of_ros import message

Header = message("Header", frame_id="")
